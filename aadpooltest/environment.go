package aadpooltest

import (
	"fmt"
	"os"
	"path/filepath"
)

// ClientSecretEnv returns the environment that azidentity's EnvironmentCredential reads for a client secret: the variables
// AZURE_AUTHORITY_HOST, AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET. p is what [Authority.Register] returned.
func (a *Authority) ClientSecretEnv(p Principal) map[string]string {
	return map[string]string{
		"AZURE_AUTHORITY_HOST": a.URL(),
		"AZURE_TENANT_ID":      a.tenantID,
		"AZURE_CLIENT_ID":      p.ClientID,
		"AZURE_CLIENT_SECRET":  p.Secret,
	}
}

// WorkloadIdentityEnv returns the environment that the AKS webhook gives to a pod, which azidentity's
// WorkloadIdentityCredential reads: AZURE_AUTHORITY_HOST, AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE.
// It writes that file, azure-identity-token, into dir. p is what [Authority.Register] returned.
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
