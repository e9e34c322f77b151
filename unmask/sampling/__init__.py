"""From a backbone's logits to tokens: plans, schedulers, guidance, reuse and the one step."""
