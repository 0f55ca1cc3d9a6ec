// Command manifests prints, as one JSON array, what virt-operator would install for virt-api, virt-controller
// and virt-handler: custom resource definitions, service accounts and their rights, priority class, policy,
// API services and webhooks. KubeVirt's own generator packages make all of it; nothing is written here.
//
// It leaves out deployments, services and certificates, which are this project's to arrange.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/components"
	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/rbac"
)

const namespace = "kubevirt"

// In the order of pkg/virt-operator/resource/generate/install/strategy.go, after virt-operator's own KubeVirt.
var definitions = []func() (*extv1.CustomResourceDefinition, error){
	components.NewKubeVirtCrd,
	components.NewVirtualMachineInstanceCrd,
	components.NewPresetCrd,
	components.NewReplicaSetCrd,
	components.NewVirtualMachineCrd,
	components.NewVirtualMachineInstanceMigrationCrd,
	components.NewVirtualMachineSnapshotCrd,
	components.NewVirtualMachineSnapshotContentCrd,
	components.NewVirtualMachineRestoreCrd,
	components.NewVirtualMachineInstancetypeCrd,
	components.NewVirtualMachineClusterInstancetypeCrd,
	components.NewVirtualMachinePoolCrd,
	components.NewMigrationPolicyCrd,
	components.NewVirtualMachinePreferenceCrd,
	components.NewVirtualMachineClusterPreferenceCrd,
	components.NewVirtualMachineExportCrd,
	components.NewVirtualMachineCloneCrd,
	components.NewVirtualMachineBackupCrd,
	components.NewVirtualMachineBackupTrackerCrd,
}

func objects() ([]any, error) {
	var all []any
	for _, definition := range definitions {
		crd, err := definition()
		if err != nil {
			return nil, err
		}
		all = append(all, crd)
	}
	for _, rights := range [][]runtime.Object{
		rbac.GetAllCluster(),
		rbac.GetAllApiServer(namespace),
		rbac.GetAllController(namespace, true),
		rbac.GetAllHandler(namespace),
	} {
		for _, object := range rights {
			all = append(all, object)
		}
	}
	handler := fmt.Sprintf("system:serviceaccount:%s:%s", namespace, components.HandlerServiceAccountName)
	all = append(all,
		components.NewKubeVirtPriorityClassCR(),
		components.NewHandlerV1ValidatingAdmissionPolicy(handler),
		components.NewHandlerV1ValidatingAdmissionPolicyBinding(),
	)
	for _, service := range components.NewVirtAPIAPIServices(namespace) {
		all = append(all, service)
	}
	return append(all,
		components.NewVirtAPIMutatingWebhookConfiguration(namespace),
		components.NewVirtAPIValidatingWebhookConfiguration(namespace),
		components.NewVirtLauncherPodMutatingWebhookConfiguration(namespace),
	), nil
}

func main() {
	all, err := objects()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(all)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
