"""The REST door, ``/api/v1/``: Django REST framework, and Starlette routes for what streams."""
