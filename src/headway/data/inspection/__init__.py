"""Problems of a data set: unreadable files and near-duplicates."""
