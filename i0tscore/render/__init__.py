"""Views of reports: documents of tables and notes in several formats, CSV, and plots."""
