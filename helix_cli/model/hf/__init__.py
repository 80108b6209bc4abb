"""Models that run through transformers' own modules, with Helix's paged attention and products inside."""
