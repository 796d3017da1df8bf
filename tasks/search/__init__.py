"""From what somebody looked for to features, label tables, ranked lists and a registered learner."""
