import java.sql.DriverManager;

public class Query {
    public static void main(String[] arguments) throws Exception {
        try (var connection = DriverManager.getConnection(System.getenv("JDBC_URL"));
                var result = connection.createStatement().executeQuery("select current_user")) {
            result.next();
            System.out.println(result.getString(1));
        }
    }
}
