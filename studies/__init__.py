"""Studies behind the reports and the embedded model; not part of the wheel."""
