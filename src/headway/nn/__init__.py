"""Building blocks: attention, transformer block, batch norm over processes, heads, LoRA, EMA teacher."""
