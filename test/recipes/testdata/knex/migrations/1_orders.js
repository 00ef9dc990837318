exports.up = (knex) => knex.schema.createTable('orders', (table) => {
  table.bigIncrements('id')
  table.text('customer').notNullable()
})
exports.down = (knex) => knex.schema.dropTable('orders')
