"""What reports, exported pages and the served page share: one theme, one table of names, one view of a coloured story."""
