"""Fleet: this process among the others that share its stores."""
