// A test with xunit and Testcontainers: dotnet test
using DotNet.Testcontainers.Builders;
using DotNet.Testcontainers.Containers;
using Xunit;

public sealed class OrdersTest : IAsyncLifetime
{
    private readonly IContainer standIns = new ContainerBuilder()
        .WithImage(Environment.GetEnvironmentVariable("STANDINS_IMAGE") ?? "ghcr.io/aadpool/aadpool-standins")
        .WithEnvironment("AADPOOLTEST_HOST", "localhost")
        .WithPortBinding(8080, true)
        .WithPortBinding(8443, true)
        .WithPortBinding(5432, true)
        .WithWaitStrategy(Wait.ForUnixContainer().UntilHttpRequestIsSucceeded(r => r.ForPort(8080).ForPath("/healthz")))
        .Build();

    public Task InitializeAsync() => standIns.StartAsync();

    public Task DisposeAsync() => standIns.DisposeAsync().AsTask();

    [Fact]
    public async Task TheServiceLogsIn()
    {
        var directory = Directory.CreateTempSubdirectory("standins-");
        var env = await LogIn.EnvironmentAsync(standIns.GetMappedPublicPort(8080), standIns.GetMappedPublicPort(8443),
            standIns.GetMappedPublicPort(5432), directory.FullName);
        Assert.Equal("orders-api", await LogIn.UserAsync(env));
    }
}
