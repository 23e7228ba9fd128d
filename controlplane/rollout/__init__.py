"""Changes of policy by command: judged whole, tried in shadow, put into the policy folder, kept, taken back."""
