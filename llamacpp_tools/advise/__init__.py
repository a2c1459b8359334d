"""From a result's numbers to a decision: what a step costs, how long drafts survive, which levers to use."""
