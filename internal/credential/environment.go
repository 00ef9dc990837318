package credential

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// newEnvironment is azidentity's EnvironmentCredential, which names only the first variable that is missing, and takes
// ids from nowhere else.
func (s Settings) newEnvironment() (azcore.TokenCredential, error) {
	if err := s.checkEnvironment(); err != nil {
		return nil, err
	}
	switch {
	case s.ClientID == "" && s.TenantID == "":
		return azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{
			ClientOptions: s.ClientOptions, DisableInstanceDiscovery: s.DisableInstanceDiscovery})
	case os.Getenv(secretEnv) != "":
		return azidentity.NewClientSecretCredential(or(s.TenantID, tenantEnv), or(s.ClientID, clientEnv),
			os.Getenv(secretEnv), &azidentity.ClientSecretCredentialOptions{
				ClientOptions: s.ClientOptions, DisableInstanceDiscovery: s.DisableInstanceDiscovery})
	}
	return s.newCertificate()
}

func (s Settings) checkEnvironment() error {
	where := "they are the tenant, the client id and the client secret of an app registration"
	proof := secretEnv
	if os.Getenv(certificateEnv) != "" {
		proof = certificateEnv
	}
	settings := []setting{{tenantEnv, s.TenantID}, {clientEnv, s.ClientID}}
	// azidentity also takes a user's name and password, though not for ids of our own.
	if s.ClientID == "" && s.TenantID == "" && os.Getenv(usernameEnv) != "" {
		return missing(Environment, where, settings...)
	}
	if proof == secretEnv {
		where += " (or, in " + certificateEnv + ", the file of a certificate with its key)"
	}
	return missing(Environment, where, append(settings, setting{proof, ""})...)
}

func (s Settings) newCertificate() (azcore.TokenCredential, error) {
	pem, err := os.ReadFile(os.Getenv(certificateEnv))
	if err != nil {
		return nil, fmt.Errorf("reading the file that %s names: %w", certificateEnv, err)
	}
	certificates, key, err := azidentity.ParseCertificates(pem, []byte(os.Getenv("AZURE_CLIENT_CERTIFICATE_PASSWORD")))
	if err != nil { // which may quote what it has read
		return nil, errors.New("the file that " + certificateEnv + " names is no certificate with its key, in PEM or " +
			"PKCS12, or its password is not that of AZURE_CLIENT_CERTIFICATE_PASSWORD")
	}
	return azidentity.NewClientCertificateCredential(or(s.TenantID, tenantEnv), or(s.ClientID, clientEnv),
		certificates, key, &azidentity.ClientCertificateCredentialOptions{ClientOptions: s.ClientOptions,
			DisableInstanceDiscovery: s.DisableInstanceDiscovery, SendCertificateChain: sendsChain()})
}

// sendsChain reads what EnvironmentCredential reads in the same way.
func sendsChain() bool {
	value := os.Getenv("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN")
	return value == "1" || strings.EqualFold(value, "true")
}
