// Generated from the registry of kinds. DO NOT EDIT.

/** Every kind: its field in an Object, and whether its objects are in namespaces. */
export const KINDS = {
  EgressFirewall: { field: "egressFirewall", isNamespaced: true },
  EgressIP: { field: "egressIp", isNamespaced: false },
  EndpointSlice: { field: "endpointSlice", isNamespaced: true },
  Endpoints: { field: "endpoints", isNamespaced: true },
  Infrastructure: { field: "infrastructure", isNamespaced: false },
  Namespace: { field: "namespace", isNamespaced: false },
  Network: { field: "network", isNamespaced: false },
  NetworkAttachmentDefinition: { field: "networkAttachmentDefinition", isNamespaced: true },
  NetworkOperator: { field: "networkOperator", isNamespaced: false },
  NetworkPolicy: { field: "networkPolicy", isNamespaced: true },
  Node: { field: "node", isNamespaced: false },
  Pod: { field: "pod", isNamespaced: true },
  Service: { field: "service", isNamespaced: true },
} as const;
