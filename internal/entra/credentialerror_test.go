package entra

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReasonIsShort(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"Entra's words out of an answer",
			"ClientSecretCredential authentication failed. \nPOST https://x/y\n-----------------------------\nRESPONSE 401: " +
				"401 Unauthorized\n{\n  \"error_description\": \"AADSTS7000215: Invalid client secret provided. Trace ID: abc " +
				"Correlation ID: def\"\n}", "AADSTS7000215: Invalid client secret provided."},
		{"without the links",
			"managed identity timed out. See https://aka.ms/azsdk/go/identity/troubleshoot#dac for more information",
			"managed identity timed out"},
		{"without az's prefix", "ERROR: Please run 'az login' to setup account.", "Please run 'az login' to setup account."},
		{"a page of a proxy", strings.Repeat("x", 500), strings.Repeat("x", 400) + "… (100 bytes more)"},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.want, Reason(row.text)) })
	}
}

func TestBrief(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"a program that is missing",
			"AzureCLICredential: executable not found on path. To troubleshoot, visit " +
				"https://aka.ms/azsdk/go/identity/troubleshoot#azure-cli",
			"AzureCLICredential: az is not on PATH"},
		{"a chain without any",
			"DefaultAzureCredential: failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: missing " +
				"environment variable AZURE_TENANT_ID\n\tAzureCLICredential: executable not found on " +
				"path\n\tAzureDeveloperCLICredential: executable not found on path\n\tAzurePowerShellCredential: executable " +
				"not found on path",
			"no credential of the chain has a token: EnvironmentCredential: missing environment variable AZURE_TENANT_ID; " +
				"AzureCLICredential: az is not on PATH; AzureDeveloperCLICredential: azd is not on PATH; " +
				"AzurePowerShellCredential: pwsh is not on PATH"},
		{"a chain that Entra stopped",
			"failed to acquire a token.\nAttempted credentials:\n\tClientSecretCredential authentication failed. \nPOST " +
				"https://x\n{\"error_description\": \"AADSTS7000215: Invalid client secret.\"}",
			"AADSTS7000215: Invalid client secret."},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, Brief(errors.New(row.text)))
			assert.Equal(t, strings.Contains(row.name, "chain"), IsChain(row.text))
		})
	}
}
