"""One document model, its renderers, pages, and plots."""
