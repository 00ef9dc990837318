// Logs in with nothing but the JDK's HTTP client and pgjdbc:
//   java -Djavax.net.ssl.trustStore=entra.p12 -Djavax.net.ssl.trustStorePassword=changeit -cp postgresql.jar Client.java

import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.sql.DriverManager;
import java.util.Map;
import java.util.Properties;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

public class Client {
    static final Map<String, String> ENV = System.getenv();

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("user", ENV.get("PGUSER"));
        properties.setProperty("password", accessToken());
        properties.setProperty("sslmode", "verify-full");
        properties.setProperty("sslrootcert", ENV.get("PGSSLROOTCERT"));
        String url = "jdbc:postgresql://" + ENV.get("PGHOST") + ":" + ENV.get("PGPORT") + "/" + ENV.get("PGDATABASE");
        try (var connection = DriverManager.getConnection(url, properties);
                var result = connection.createStatement().executeQuery("select session_user")) {
            result.next();
            System.out.println(result.getString(1));
        }
    }

    static String accessToken() throws Exception {
        String form = Map.of(
                        "grant_type", "client_credentials",
                        "client_id", ENV.get("AZURE_CLIENT_ID"),
                        "client_secret", ENV.get("AZURE_CLIENT_SECRET"),
                        "scope", "https://ossrdbms-aad.database.windows.net/.default")
                .entrySet().stream()
                .map(e -> e.getKey() + "=" + URLEncoder.encode(e.getValue(), StandardCharsets.UTF_8))
                .collect(Collectors.joining("&"));
        URI endpoint = URI.create(ENV.get("AZURE_AUTHORITY_HOST") + ENV.get("AZURE_TENANT_ID") + "/oauth2/v2.0/token");
        HttpRequest request = HttpRequest.newBuilder(endpoint)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .POST(HttpRequest.BodyPublishers.ofString(form))
                .build();
        String answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
        var token = Pattern.compile("\"access_token\":\"([^\"]+)\"").matcher(answer);
        if (!token.find()) {
            throw new IllegalStateException(answer);
        }
        return token.group(1);
    }
}
