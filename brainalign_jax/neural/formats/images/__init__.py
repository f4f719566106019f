"""NIfTI, GIFTI and CIFTI: headers checked, series read volume by volume, masks, atlases and meshes."""
