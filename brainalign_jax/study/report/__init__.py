"""What is said of a study: summary, verdict, figures and the report's page."""
