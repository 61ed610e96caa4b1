"""Every operation of the API that this client calls, by its `operationId` in openapi.yaml: method and path."""

from __future__ import annotations

OPERATIONS: dict[str, tuple[str, str]] = {
    "listCollections": ("GET", "/api/collections"),
    "getCollection": ("GET", "/api/collections/{slug}"),
    "getCollectionSchema": ("GET", "/api/collections/{slug}/schema"),
    "search": ("POST", "/api/collections/{slug}/search"),
    "getDocument": ("GET", "/api/documents/{id}"),
    "getDocumentText": ("GET", "/api/documents/{id}/text"),
    "getDocumentFile": ("GET", "/api/documents/{id}/files/{format}"),
    "listDocsets": ("GET", "/api/docsets"),
    "createDocset": ("POST", "/api/docsets"),
    "getDocset": ("GET", "/api/docsets/{id}"),
    "renameDocset": ("PATCH", "/api/docsets/{id}"),
    "deleteDocset": ("DELETE", "/api/docsets/{id}"),
    "listMembers": ("GET", "/api/docsets/{id}/members"),
    "listCatalog": ("GET", "/api/docsets/{id}/catalog"),
    "estimatePackage": ("GET", "/api/docsets/{id}/estimate"),
    "createPackage": ("POST", "/api/docsets/{id}/packages"),
    "getPackage": ("GET", "/api/packages/{id}"),
    "deletePackage": ("DELETE", "/api/packages/{id}"),
    "listAssets": ("GET", "/api/packages/{id}/assets"),
    "downloadAsset": ("GET", "/api/packages/{id}/assets/{name}"),
    "getMe": ("GET", "/api/me"),
}
