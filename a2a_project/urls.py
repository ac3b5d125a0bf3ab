"""Django's routes. What streams or is hot is served before Django: see ``asgi.py``."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
