using System.Net.Http.Json;
using System.Security.Cryptography.X509Certificates;
using Azure.Core;
using Azure.Core.Pipeline;
using Azure.Identity;
using Npgsql;

/// The stand-ins' environment, and a login as a service does it: Azure.Identity and Npgsql.
static class LogIn
{
    /// Tells the stand-ins by which ports they are reached. Returns what they have for a service.
    public static async Task<Dictionary<string, string>> EnvironmentAsync(ushort control, ushort entra, ushort postgres,
        string directory)
    {
        using var http = new HttpClient { BaseAddress = new Uri($"http://localhost:{control}") };
        var told = await http.PutAsync($"/ports?control={control}&entra={entra}&postgres={postgres}", null);
        told.EnsureSuccessStatusCode();
        var ca = Path.Combine(directory, "ca.pem");
        await File.WriteAllBytesAsync(ca, await http.GetByteArrayAsync("/ca.pem"));
        var env = await http.GetFromJsonAsync<Dictionary<string, string>>("/env?ca=" + Uri.EscapeDataString(ca));
        return env!;
    }

    /// Logs in with a token as the password. Returns who it is.
    public static async Task<string> UserAsync(Dictionary<string, string> env)
    {
        var root = X509Certificate2.CreateFromPem(await File.ReadAllTextAsync(env["SSL_CERT_FILE"]));
        using var handler = new SocketsHttpHandler();
        handler.SslOptions.CertificateChainPolicy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            CustomTrustStore = { root },
            RevocationMode = X509RevocationMode.NoCheck,
        };
        var credential = new ClientSecretCredential(env["AZURE_TENANT_ID"], env["AZURE_CLIENT_ID"],
            env["AZURE_CLIENT_SECRET"], new ClientSecretCredentialOptions
            {
                AuthorityHost = new Uri(env["AZURE_AUTHORITY_HOST"]),
                DisableInstanceDiscovery = true, // the stand-in is no host that Microsoft knows
                Transport = new HttpClientTransport(new HttpClient(handler)),
            });
        var token = await credential.GetTokenAsync(
            new TokenRequestContext(["https://ossrdbms-aad.database.windows.net/.default"]), default);
        var settings = new NpgsqlConnectionStringBuilder
        {
            Host = env["PGHOST"],
            Port = int.Parse(env["PGPORT"]),
            Username = env["PGUSER"],
            Database = env["PGDATABASE"],
            Password = token.Token,
            SslMode = SslMode.VerifyFull,
            RootCertificate = env["PGSSLROOTCERT"],
        };
        await using var connection = new NpgsqlConnection(settings.ConnectionString);
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand("select session_user::text", connection);
        return (string)(await command.ExecuteScalarAsync())!;
    }
}
