"""Sources of images: folders, tars, tables, arrays and data sets of other libraries."""
