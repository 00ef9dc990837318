import java.io.FileInputStream;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.sql.DriverManager;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** The stand-ins' environment, and a login as a service does it: a token from Entra, and pgjdbc. */
class LogIn {
    /** Tells the stand-ins by which ports they are reached. Returns what they have for a service. */
    static Map<String, String> environment(Map<String, String> ports, Path directory) throws Exception {
        String control = "http://localhost:" + ports.get("control");
        ask(HttpRequest.newBuilder(URI.create(control + "/ports?" + form(ports))).PUT(BodyPublishers.noBody()), null);
        Path ca = directory.resolve("ca.pem");
        Files.writeString(ca, ask(HttpRequest.newBuilder(URI.create(control + "/ca.pem")), null));
        String json = ask(HttpRequest.newBuilder(URI.create(control + "/env?" + form(Map.of("ca", ca.toString())))), null);
        Map<String, String> env = new HashMap<>();
        var pair = Pattern.compile("\"(\\w+)\": \"([^\"]*)\"").matcher(json);
        while (pair.find()) {
            env.put(pair.group(1), pair.group(2));
        }
        return env;
    }

    /** Logs in with a token as the password. Returns who it is. */
    static String logIn(Map<String, String> env) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("user", env.get("PGUSER"));
        properties.setProperty("password", accessToken(env));
        properties.setProperty("sslmode", "verify-full");
        properties.setProperty("sslrootcert", env.get("PGSSLROOTCERT"));
        String url = "jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + env.get("PGDATABASE");
        try (var connection = DriverManager.getConnection(url, properties);
                var result = connection.createStatement().executeQuery("select session_user")) {
            result.next();
            return result.getString(1);
        }
    }

    /** What azure-identity's ClientSecretCredential sends. */
    static String accessToken(Map<String, String> env) throws Exception {
        URI endpoint = URI.create(env.get("AZURE_AUTHORITY_HOST") + env.get("AZURE_TENANT_ID") + "/oauth2/v2.0/token");
        String answer = ask(HttpRequest.newBuilder(endpoint)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .POST(BodyPublishers.ofString(form(Map.of(
                        "grant_type", "client_credentials",
                        "client_id", env.get("AZURE_CLIENT_ID"),
                        "client_secret", env.get("AZURE_CLIENT_SECRET"),
                        "scope", "https://ossrdbms-aad.database.windows.net/.default")))), env.get("SSL_CERT_FILE"));
        var token = Pattern.compile("\"access_token\":\"([^\"]+)\"").matcher(answer);
        if (!token.find()) {
            throw new IllegalStateException(answer);
        }
        return token.group(1);
    }

    static String ask(HttpRequest.Builder request, String certificate) throws Exception {
        var client = HttpClient.newBuilder();
        if (certificate != null) {
            client.sslContext(trusting(certificate));
        }
        var answer = client.build().send(request.build(), BodyHandlers.ofString());
        if (answer.statusCode() >= 300) {
            throw new IllegalStateException(answer.uri() + ": " + answer.statusCode() + ": " + answer.body());
        }
        return answer.body();
    }

    static SSLContext trusting(String certificate) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (var file = new FileInputStream(certificate)) {
            store.setCertificateEntry("standins", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    static String form(Map<String, String> values) {
        return values.entrySet().stream()
                .map(e -> e.getKey() + "=" + URLEncoder.encode(e.getValue(), StandardCharsets.UTF_8))
                .collect(Collectors.joining("&"));
    }

    public static void main(String[] args) throws Exception {
        var ports = Map.of("control", args[0], "entra", args[1], "postgres", args[2]);
        System.out.println(logIn(environment(ports, Path.of(args[3]))));
    }
}
