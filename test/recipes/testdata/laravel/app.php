<?php
require "Illuminate/Database/autoload.php";
use Illuminate\Database\Capsule\Manager;

$capsule = new Manager;
$capsule->addConnection([
    "driver" => getenv("DB_CONNECTION"),
    "host" => getenv("DB_HOST"),
    "port" => getenv("DB_PORT"),
    "database" => getenv("DB_DATABASE"),
    "username" => getenv("DB_USERNAME"),
    "password" => getenv("DB_PASSWORD"),
    "charset" => "utf8",
    "sslmode" => "prefer",
]);
$capsule->getConnection()->getSchemaBuilder()->create("orders", function ($table) {
    $table->bigIncrements("id");
    $table->text("customer");
});
echo $capsule->getConnection()->selectOne("select current_user as name")->name, "\n";
