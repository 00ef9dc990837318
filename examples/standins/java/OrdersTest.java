// A test with JUnit and testcontainers: org.testcontainers:testcontainers, org.testcontainers:junit-jupiter (in version 2
// testcontainers-junit-jupiter), org.junit.jupiter:junit-jupiter, org.postgresql:postgresql.
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.junit.jupiter.Container;
import org.testcontainers.junit.jupiter.Testcontainers;
import org.testcontainers.utility.DockerImageName;

@Testcontainers
class OrdersTest {
    static final String IMAGE = System.getenv().getOrDefault("STANDINS_IMAGE", "ghcr.io/aadpool/aadpool-standins");

    @Container
    static final GenericContainer<?> standIns = new GenericContainer<>(DockerImageName.parse(IMAGE))
            .withEnv("AADPOOLTEST_HOST", "localhost")
            .withExposedPorts(8080, 8443, 5432)
            .waitingFor(Wait.forHttp("/healthz").forPort(8080));

    @Test
    void theServiceLogsIn(@TempDir Path directory) throws Exception {
        var env = LogIn.environment(
                Map.of("control", mapped(8080), "entra", mapped(8443), "postgres", mapped(5432)), directory);
        assertEquals("orders-api", LogIn.logIn(env));
    }

    static String mapped(int port) {
        return String.valueOf(standIns.getMappedPort(port));
    }
}
