"""Files that people read: image grids, contact sheets, HTML pages, charts and tables."""
