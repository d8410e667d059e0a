"""What a person sees of results: tables, remarks and charts."""
