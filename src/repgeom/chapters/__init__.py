"""The experiments of the chapters, one module a chapter."""
