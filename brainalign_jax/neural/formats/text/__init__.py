"""Words and values in text: tables, delimited files, TextGrids, and the sidecars that scans come with."""
