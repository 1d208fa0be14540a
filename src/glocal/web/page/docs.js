// The documentation of the API, by Swagger UI.
window.SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#swagger",
  deepLinking: true,
  validatorUrl: null,
});
