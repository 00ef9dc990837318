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
	return s.certificateIn(os.Getenv(certificateEnv), "the file that "+certificateEnv+" names")
}

// newClientCertificate is a service principal whose certificate is in a file, in PEM or PKCS12.
func (s Settings) newClientCertificate() (azcore.TokenCredential, error) {
	err := missing(ClientCertificate, "they are the tenant and the client id of an app registration, and the file of a "+
		"certificate of its, with the key",
		setting{tenantEnv, s.TenantID}, setting{clientEnv, s.ClientID}, setting{certificateEnv, s.CertificateFile})
	if err != nil {
		return nil, err
	}
	return s.certificateIn(or(s.CertificateFile, certificateEnv), "the certificate's file")
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

// certificateIn is that of a file, which an error calls by its description.
func (s Settings) certificateIn(file, description string) (azcore.TokenCredential, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", description, err)
	}
	certificates, key, err := azidentity.ParseCertificates(pem, []byte(os.Getenv("AZURE_CLIENT_CERTIFICATE_PASSWORD")))
	if err != nil { // which may quote what it has read
		return nil, errors.New(description + " is no certificate with its key, in PEM or " +
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
