"""Changes: what tells every replica that something cached is out of date."""
