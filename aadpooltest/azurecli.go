package aadpooltest

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// azScript is the stand-in for the Azure CLI, less its first line and the three settings that InstallAzureCLI puts
// before it.
//
//go:embed az.bash
var azScript string

// azureCLIDefaultResource is what `az account get-access-token` asks for when it is not told:
// https://learn.microsoft.com/cli/azure/account#az-account-get-access-token
const azureCLIDefaultResource = "https://management.core.windows.net/"

// InstallAzureCLI writes an executable named az into dir, to be put first on PATH: a stand-in for the Azure CLI with p
// signed in. It answers `az account get-access-token` with --resource, --scope or --tenant, and no other command.
// azidentity's AzureCLICredential runs it. The stand-in is a bash script: the error says so where there is no bash,
// and on Windows it is [errors.ErrUnsupported].
func (a *Authority) InstallAzureCLI(p Principal, dir string) error {
	if runtime.GOOS == "windows" {
		return fmt.Errorf("aadpooltest: install the az stand-in: it is a bash script: %w", errors.ErrUnsupported)
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		return fmt.Errorf("aadpooltest: install the az stand-in: install bash: %w", err)
	}
	host, port, err := net.SplitHostPort(a.machine.Listener.Addr().String())
	if err != nil {
		return fmt.Errorf("aadpooltest: install the az stand-in: %w", err)
	}
	script := fmt.Sprintf("#!%s\nhost=%s\nport=%s\npath=%s\n%s",
		bash, host, port, azureCLIPath+a.machineSecret(p), azScript)
	if err := writeExecutable(filepath.Join(dir, "az"), script); err != nil {
		return fmt.Errorf("aadpooltest: install the az stand-in: %w", err)
	}
	return nil
}

// writeExecutable writes a file that can be run at once. While another goroutine starts a process, that process may
// hold the file open for writing, and running it then fails with "text file busy": https://go.dev/issue/22315.
func writeExecutable(name, content string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(name, []byte(content), 0o700)
}

// azureCLI answers the stand-in with what az prints. Errors are the text that az writes to standard error.
func (a *Authority) azureCLI(r *http.Request) answer {
	p, ok := a.principalByMachineSecret(r.PathValue("secret"))
	if !ok {
		return azureCLIError("Please run 'az login' to setup account.")
	}
	resource := r.Form.Get("resource")
	if scope := r.Form.Get("scope"); scope != "" {
		resource, _ = resourceOfScope(scope)
	}
	if resource == "" {
		resource = azureCLIDefaultResource
	}
	if tenant := r.Form.Get("tenant"); tenant != "" && !strings.EqualFold(tenant, a.tenantID) {
		return azureCLIError(errTenantNotFound(tenant).String())
	}
	token, refused := a.issue(p, resource)
	if refused != nil {
		return azureCLIError(refused.String())
	}
	expiresAt := token.request.expiresAt()
	return jsonAnswer(http.StatusOK, map[string]any{
		"accessToken":  token.token,
		"expiresOn":    expiresAt.Local().Format("2006-01-02 15:04:05.000000"),
		"expires_on":   expiresAt.Unix(),
		"subscription": a.subscriptionID,
		"tenant":       a.tenantID,
		"tokenType":    "Bearer",
	})
}

func azureCLIError(message string) answer {
	return answer{
		status:      http.StatusBadRequest,
		contentType: "text/plain; charset=utf-8",
		body:        []byte("ERROR: " + message),
	}
}
