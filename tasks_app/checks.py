"""System checks of the project's settings. ``manage.py a2a --validate-config`` runs these with Django's own."""
