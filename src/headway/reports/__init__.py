"""What a person sees beside the command line: sheets and pages."""
