"""Building blocks: attention, blocks, batch norm over processes, heads, the teacher."""
