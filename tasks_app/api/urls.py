"""Routes below ``/api/v1/``."""

from rest_framework.routers import SimpleRouter

from tasks_app.api.artifacts import ArtifactViewSet
from tasks_app.api.batches import BatchViewSet
from tasks_app.api.schedules import ScheduleViewSet
from tasks_app.api.views import TaskViewSet

router = SimpleRouter()
router.register("artifacts", ArtifactViewSet, basename="artifact")
router.register("tasks", TaskViewSet, basename="task")
router.register("batches", BatchViewSet, basename="batch")
router.register("schedules", ScheduleViewSet, basename="schedule")
urlpatterns = router.urls
