package deploy

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKustomizesComponentPutsTheProxyBesideAService(t *testing.T) {
	out, err := exec.Command(tool(t, "kustomize"), "build", "kustomize/example").CombinedOutput()
	require.NoError(t, err, "%s", out)
	all := decode(t, out)
	all.assertComplete(t)
	require.Len(t, all.deployments, 1)
	pod := all.deployments[0].Spec.Template.Spec
	assertSidecar(t, pod)
	all.assertProgramTakes(t, pod)
	said, err := all.checkConfig(t, pod, pod.InitContainers[0])
	require.NoError(t, err, said)
	assert.Contains(t, said, "orders.postgres.database.azure.com", "the generated ConfigMap is the proxy's environment")

	sidecar := documents(t, "kubernetes/sidecar.yaml").deployments[0].Spec.Template.Spec.InitContainers[0]
	component := pod.InitContainers[0]
	component.Env, component.EnvFrom, sidecar.Env = nil, nil, nil
	assert.Equal(t, sidecar, component, "it is the manifest's, but for where the environment comes from")
}
