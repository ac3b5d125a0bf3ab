"""Users and groups of the admin: Django's own pages in our theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

if TYPE_CHECKING:
    ThemedUser = UserAdmin[User]
    ThemedGroup = GroupAdmin
else:
    from unfold.admin import ModelAdmin

    class ThemedUser(UserAdmin, ModelAdmin):
        pass

    class ThemedGroup(GroupAdmin, ModelAdmin):
        pass


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class Users(ThemedUser):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class Groups(ThemedGroup):
    pass
