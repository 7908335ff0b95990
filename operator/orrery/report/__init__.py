"""The report of an answered plan: one page that holds everything it shows."""
