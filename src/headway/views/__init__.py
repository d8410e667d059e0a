"""What the tasks deal: batched operations on pictures, on whatever device they are, one draw per picture."""
