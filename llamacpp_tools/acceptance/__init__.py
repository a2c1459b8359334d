"""What the MTP block drafts by class of text and by lookahead, and what each draft length would pay."""
