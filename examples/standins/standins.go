// Package standins is an example of a test that logs in to Azure Database for PostgreSQL with Microsoft Entra tokens,
// and needs no Azure. Testcontainers start the stand-ins; azidentity and pgx are what a service has. It uses nothing of
// aadpool's. The directories beside it have the same in Java, Python, JavaScript and C#.
package standins

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// Image is the stand-ins'. Before there is a release, build it: docs/standins.md.
func Image() string {
	if image := os.Getenv("STANDINS_IMAGE"); image != "" {
		return image
	}
	return "ghcr.io/aadpool/aadpool-standins"
}

// Start starts the stand-ins, and returns the environment of a service that logs in to them.
func Start(ctx context.Context, dir string) (testcontainers.Container, map[string]string, error) {
	container, err := testcontainers.Run(ctx, Image(),
		testcontainers.WithEnv(map[string]string{"AADPOOLTEST_HOST": "localhost"}),
		testcontainers.WithExposedPorts("8080/tcp", "8443/tcp", "5432/tcp"),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/healthz").WithPort("8080/tcp")))
	if err != nil {
		return container, nil, err
	}
	ports := url.Values{}
	for name, inside := range map[string]string{"control": "8080/tcp", "entra": "8443/tcp", "postgres": "5432/tcp"} {
		mapped, err := container.MappedPort(ctx, inside)
		if err != nil {
			return container, nil, err
		}
		ports.Set(name, mapped.Port())
	}
	env, err := Environment(ctx, ports, dir)
	return container, env, err
}

// Environment tells the stand-ins by which ports they are reached, and returns what they have for a service. The
// certificate to trust comes into dir.
func Environment(ctx context.Context, ports url.Values, dir string) (map[string]string, error) {
	control := "http://localhost:" + ports.Get("control")
	if _, err := ask(ctx, http.MethodPut, control+"/ports?"+ports.Encode()); err != nil {
		return nil, err
	}
	certificate, err := ask(ctx, http.MethodGet, control+"/ca.pem")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		return nil, err
	}
	text, err := ask(ctx, http.MethodGet, control+"/env?ca="+url.QueryEscape(file))
	if err != nil {
		return nil, err
	}
	var env map[string]string
	return env, json.Unmarshal(text, &env)
}

func ask(ctx context.Context, method, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, address, response.Status, body)
	}
	return body, err
}

// LogIn is what a service does: a token from Entra, which is the password of the role. It returns who it is.
func LogIn(ctx context.Context, env map[string]string) (user string, err error) {
	certificate, err := os.ReadFile(env["SSL_CERT_FILE"])
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	credential, err := azidentity.NewClientSecretCredential(env["AZURE_TENANT_ID"], env["AZURE_CLIENT_ID"],
		env["AZURE_CLIENT_SECRET"], &azidentity.ClientSecretCredentialOptions{
			ClientOptions: azcore.ClientOptions{
				Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: env["AZURE_AUTHORITY_HOST"]},
				Transport: client,
			},
			DisableInstanceDiscovery: true, // the stand-in is no host that Microsoft knows
		})
	if err != nil {
		return "", err
	}
	scope := policy.TokenRequestOptions{Scopes: []string{"https://ossrdbms-aad.database.windows.net/.default"}}
	token, err := credential.GetToken(ctx, scope)
	if err != nil {
		return "", err
	}
	config, err := pgx.ParseConfig(env["DATABASE_URL"])
	if err != nil {
		return "", err
	}
	config.Password = token.Token
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "select session_user").Scan(&user)
	return user, err
}
