"""Reports as documents and as CSV."""
