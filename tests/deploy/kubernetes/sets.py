"""Values to render the chart with: between them they take every branch."""

from __future__ import annotations

from tests.deploy.kubernetes.charts import setting

ETCD = "etcd+https://a.example:2379,b.example:23790,c.example/mcp/"
SETS: dict[str, list[str]] = {
    "defaults": [],
    "example": setting(exampleServer__enabled=True),
    "kept": setting(
        facade__persistence__enabled=True, facade__persistence__storageClassName="fast"
    ),
    "everything": [
        *setting(
            store__url=ETCD,
            store__secret__name="s",
            store__tls__secretName="t",
            store__tls__clientCertificate=True,
            facade__gateway=True,
            facade__mcpCallTool=True,
            facade__probePublicOnly=True,
            facade__probeInterval="5s",
            facade__failAfter=3,
            facade__publicUrl="https://mcp.example.com",
            facade__registryAddress="facade",
            facade__priorityClassName="system-cluster-critical",
            ingress__enabled=True,
            ingress__className="nginx",
            ingress__tlsSecretName="c",
            serviceMonitor__enabled=True,
            podMonitor__enabled=True,
            prometheusRule__enabled=True,
            facade__auth__secretName="rules",
            facade__audit__store="postgresql://audit@db.tests.svc/audit",
            facade__audit__passwordSecret__name="audit",
            image__digest=f"sha256:{'0' * 64}",
            exampleServer__enabled=True,
            exampleServer__advertiseUrl="http://product-catalog.tests.svc:8001/mcp",
        ),
        *("--set", "store.secret.keys={user,password}"),
        *("--set", "facade.corsOrigins={https://a.example,https://b.example}"),
        *("--set", "facade.trustedProxies={10.0.0.0/8,2001:db8::/32}"),
        *("--set", "facade.podAnnotations.a=b,facade.podLabels.c=d,facade.nodeSelector.e=f"),
        *("--set", "facade.tolerations[0].operator=Exists,imagePullSecrets[0].name=pull"),
        *("--set", "exampleServer.versions[0].suffix=v1,exampleServer.versions[0].weight=0"),
        *("--set", "exampleServer.podAnnotations.a=b,exampleServer.podLabels.c=d"),
        *("--set", "serviceMonitor.labels.release=prometheus"),
        *("--set", "facade.trustedProxies={10.0.0.0/8}"),
        *("--set", "networkPolicy.extraEgress[0].to[0].ipBlock.cidr=192.0.2.1/32"),
    ],
    "bare": setting(
        networkPolicy__enabled=False,
        podDisruptionBudget__enabled=False,
        serviceAccount__create=False,
        facade__topologySpread__enabled=False,
        facade__jsonLogs=False,
        store__url="consul://$(HOST_IP):8500",
    ),
    "no facade": setting(facade__enabled=False, exampleServer__enabled=True, store__url=ETCD),
}
