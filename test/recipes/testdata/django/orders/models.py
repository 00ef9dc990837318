from django.db import models


class Order(models.Model):
    customer = models.TextField()

    class Meta:
        db_table = "orders"
