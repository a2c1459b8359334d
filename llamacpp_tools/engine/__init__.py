"""Model, context, plain decode and MTP draft-and-verify over one sequence."""
