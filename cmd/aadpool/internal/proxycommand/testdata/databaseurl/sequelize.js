const { Sequelize } = require("sequelize");

async function main() {
  const sequelize = new Sequelize(process.env.DATABASE_URL, { logging: false });
  console.log((await sequelize.query("select session_user || ' ' || current_database() as who"))[0][0].who);
  await sequelize.close();
}
main();
