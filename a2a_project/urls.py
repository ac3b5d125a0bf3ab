"""Django's routes. What streams or is hot is served before Django: see ``asgi.py``."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

admin.autodiscover()

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include("tasks_app.api.urls")),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
]
