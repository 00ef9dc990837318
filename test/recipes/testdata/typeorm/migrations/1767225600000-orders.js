module.exports.Orders1767225600000 = class Orders1767225600000 {
  async up(runner) {
    await runner.query('create table orders (id bigint generated always as identity primary key, customer text not null)')
  }
  async down(runner) {
    await runner.query('drop table orders')
  }
}
