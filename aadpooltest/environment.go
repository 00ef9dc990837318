package aadpooltest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ClientSecretEnv returns the environment that azidentity's EnvironmentCredential, and its kin in other languages,
// read for a client secret: AZURE_AUTHORITY_HOST, AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET. p is what
// [Authority.Register] returned. A process also needs [Authority.TrustEnv] and, unless its code turns instance
// discovery off, [Authority.ProxyEnv].
func (a *Authority) ClientSecretEnv(p Principal) map[string]string {
	return map[string]string{
		"AZURE_AUTHORITY_HOST": a.URL(),
		"AZURE_TENANT_ID":      a.tenantID,
		"AZURE_CLIENT_ID":      p.ClientID,
		"AZURE_CLIENT_SECRET":  p.Secret,
	}
}

// WorkloadIdentityEnv returns the environment that the AKS webhook gives to a pod, which azidentity's
// WorkloadIdentityCredential reads: AZURE_AUTHORITY_HOST, AZURE_TENANT_ID, AZURE_CLIENT_ID and
// AZURE_FEDERATED_TOKEN_FILE. It writes that file, azure-identity-token, into dir. p is what [Authority.Register]
// returned.
func (a *Authority) WorkloadIdentityEnv(p Principal, dir string) (map[string]string, error) {
	token, err := a.FederatedToken(p)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "azure-identity-token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		return nil, fmt.Errorf("aadpooltest: write the federated token: %w", err)
	}
	return map[string]string{
		"AZURE_AUTHORITY_HOST":       a.URL(),
		"AZURE_TENANT_ID":            a.tenantID,
		"AZURE_CLIENT_ID":            p.ClientID,
		"AZURE_FEDERATED_TOKEN_FILE": file,
	}, nil
}

// TrustEnv writes the authority's certificate into dir, as entra.pem, and returns the environment that makes other
// processes trust it: SSL_CERT_FILE (Go except on macOS and Windows, OpenSSL, .NET on Linux), REQUESTS_CA_BUNDLE
// (Python's requests, and so MSAL and azure-identity), NODE_EXTRA_CA_CERTS and CURL_CA_BUNDLE. All but the one for
// Node then trust nothing else: a test cannot ask the real Entra by mistake. Every user can read the file.
func (a *Authority) TrustEnv(dir string) (map[string]string, error) {
	file := filepath.Join(dir, "entra.pem")
	if err := writeFile(file, a.CertificatePEM(), 0o644); err != nil {
		return nil, fmt.Errorf("aadpooltest: write the authority's certificate: %w", err)
	}
	return map[string]string{
		"SSL_CERT_FILE":       file,
		"REQUESTS_CA_BUNDLE":  file,
		"NODE_EXTRA_CA_CERTS": file,
		"CURL_CA_BUNDLE":      file,
	}, nil
}

// ProxyEnv returns the environment that brings a process's requests for instance discovery to the authority. MSAL,
// below azure-identity in every language, asks login.microsoftonline.com about each authority host that it does not
// know, unless the program's code says otherwise. The authority is the proxy: it passes connections for that host on
// to itself, answers for IMDS too, and refuses every other address. Set are HTTPS_PROXY, HTTP_PROXY and NO_PROXY,
// which leaves loopback out, in both cases.
func (a *Authority) ProxyEnv() map[string]string {
	env := map[string]string{}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		env[name] = a.machineURL()
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		env[name] = strings.Join(append([]string{"127.0.0.1", "localhost"}, a.listening.hosts...), ",")
	}
	return env
}
